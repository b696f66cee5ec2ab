"""Which calls do not give the same on every replay, and what belongs in their place? The lint and the guard ask here.

A call is known by its dotted name, as its documentation has it: `datetime.datetime.now`, `pathlib.Path.read_text`.
What a package keeps in a private module (`httpx._api.get`) is found under its public name too.
"""

from __future__ import annotations

import os
import sys
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Final

import msgspec


class Hazard(msgspec.Struct, frozen=True):
    """Why a call does not belong in a workflow body: a stable code, and what to do instead.

    `harmless_above` is a number of arguments: with more than that many the call is the same on every replay
    (`random.Random(7)`, `time.gmtime(0)`); None when it never is.
    """

    code: str
    advice: str
    harmless_above: int | None = None


IN_A_TASK: Final = "put this in a task (@task) and call the task here"

SET_ORDER: Final = Hazard("set-order", "iterate over sorted(…): the order of a set differs from process to process")
ENVIRONMENT: Final = Hazard("environment", "take it as an input of the workflow, or read it in a task")
THREAD: Final = Hazard("thread", "put this in a task (@task); a task written as `def` runs in a thread anyway")
NETWORK: Final = Hazard("network", IN_A_TASK)
CHANCE: Final = Hazard("random", "use ctx.random(), or random.Random(seed) made here from a recorded seed")

_RULES: Final = (
    (
        "clock",
        "use ctx.now()",
        """
        datetime.datetime: now utcnow today
        datetime.date: today
        time: time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns
        time: thread_time thread_time_ns clock_gettime clock_gettime_ns
        time: localtime/0 gmtime/0 ctime/0 asctime/0 strftime/1
        pandas.Timestamp: now utcnow today
        pendulum: now today tomorrow yesterday
        arrow: now utcnow
        django.utils.timezone: now localdate/0 localtime/0
        """,
    ),
    (
        CHANCE.code,
        CHANCE.advice,
        """
        random: random uniform triangular randint choice randrange sample shuffle choices normalvariate lognormvariate
        random: expovariate vonmisesvariate gammavariate gauss betavariate binomialvariate paretovariate
        random: weibullvariate getrandbits randbytes seed getstate setstate SystemRandom Random/0
        numpy.random: * default_rng/0 RandomState/0 SeedSequence/0 Generator/0 PCG64/0 PCG64DXSM/0 MT19937/0 Philox/0
        numpy.random: SFC64/0
        """,
    ),
    ("random", "use ctx.uuid()", "uuid: uuid1 uuid4 uuid6 uuid7 getnode"),
    (
        "random",
        "make it in a task, or use ctx.uuid()",
        """
        os: urandom getrandom
        secrets: token_bytes token_hex token_urlsafe randbelow randbits choice SystemRandom
        """,
    ),
    (
        "blocking",
        "use `await ctx.sleep(…)`, or ctx.sync.sleep(…) in a synchronous workflow",
        "time: sleep",
    ),
    ("blocking", "wait for a signal (ctx.signal), or ask in a task", "builtins: input"),
    ("blocking", "await it here, or put it in a task", "asyncio: run"),
    (
        THREAD.code,
        THREAD.advice,
        """
        threading: Thread Timer Event Condition Barrier Semaphore BoundedSemaphore
        _thread: start_new_thread start_new
        concurrent.futures: ThreadPoolExecutor ProcessPoolExecutor InterpreterPoolExecutor
        multiprocessing.pool: ThreadPool
        asyncio: to_thread
        anyio.to_thread: run_sync
        """,
    ),
    (
        "process",
        IN_A_TASK,
        """
        subprocess: run Popen call check_call check_output getoutput getstatusoutput
        multiprocessing: Process Pool
        asyncio: create_subprocess_exec create_subprocess_shell
        os: system popen fork forkpty posix_spawn posix_spawnp spawnl spawnle spawnlp spawnlpe spawnv spawnve spawnvp
        os: spawnvpe execl execle execlp execlpe execv execve execvp execvpe
        """,
    ),
    (
        NETWORK.code,
        NETWORK.advice,
        """
        requests: get post put patch delete head options request session Session
        httpx: get post put patch delete head options request stream Client AsyncClient
        httpx2: get post put patch delete head options request stream Client AsyncClient
        aiohttp: request ClientSession
        urllib.request: urlopen urlretrieve build_opener
        urllib3: request PoolManager HTTPConnectionPool HTTPSConnectionPool
        http.client: HTTPConnection HTTPSConnection
        socket: socket create_connection create_server getaddrinfo gethostbyname gethostbyaddr socketpair
        smtplib: SMTP SMTP_SSL
        ftplib: FTP FTP_TLS
        imaplib: IMAP4 IMAP4_SSL
        websockets: connect
        boto3: client resource
        asyncio: open_connection start_server open_unix_connection start_unix_server
        """,
    ),
    (
        "database",
        IN_A_TASK,
        """
        sqlite3: connect Connection
        psycopg: connect
        psycopg.AsyncConnection: connect
        psycopg2: connect
        asyncpg: connect create_pool
        aiosqlite: connect
        sqlalchemy: create_engine
        sqlalchemy.ext.asyncio: create_async_engine
        pymongo: MongoClient
        redis: Redis
        redis.asyncio: Redis
        """,
    ),
    (
        "file",
        IN_A_TASK,
        """
        io: open open_code
        codecs: open
        aiofiles: open
        os: open listdir scandir walk fwalk stat lstat access remove unlink rename renames replace mkdir makedirs rmdir
        os: removedirs chmod chown link symlink readlink truncate utime mkfifo chdir
        os.path: exists lexists isfile isdir islink ismount getmtime getatime getctime getsize samefile
        pathlib.Path: read_text read_bytes write_text write_bytes open exists is_file is_dir is_symlink is_mount iterdir
        pathlib.Path: glob rglob walk stat lstat mkdir unlink rename replace rmdir touch chmod symlink_to hardlink_to
        pathlib.Path: readlink samefile
        shutil: copy copy2 copyfile copyfileobj copymode copystat copytree move rmtree make_archive unpack_archive
        shutil: disk_usage
        tempfile: mkstemp mkdtemp mktemp NamedTemporaryFile TemporaryFile TemporaryDirectory SpooledTemporaryFile
        glob: glob iglob
        fileinput: input FileInput
        """,
    ),
    (
        ENVIRONMENT.code,
        ENVIRONMENT.advice,
        """
        os: getenv getenvb putenv unsetenv getcwd getcwdb getpid getppid getlogin getuid cpu_count process_cpu_count
        os: uname getloadavg
        pathlib.Path: cwd home
        socket: gethostname getfqdn
        platform: node uname platform
        getpass: getuser getpass
        shutil: which get_terminal_size
        tempfile: gettempdir
        """,
    ),
)

_OWN_NAMES: Final = {
    "posix": "os",
    "nt": "os",
    "posixpath": "os.path",
    "ntpath": "os.path",
    "genericpath": "os.path",
    "_io": "io",
    "_socket": "socket",
    "_sqlite3": "sqlite3",
    "_datetime": "datetime",
}
"""Modules under which the interpreter keeps what the documentation has elsewhere."""


def _table() -> dict[str, Hazard]:
    table: dict[str, Hazard] = {}
    for code, advice, text in _RULES:
        for line in filter(None, map(str.strip, text.splitlines())):
            owner, _, names = line.partition(":")
            for name in names.split():
                bare, _, above = name.partition("/")
                table[f"{owner}.{bare}"] = Hazard(code, advice, int(above) if above else None)
    return table


_HAZARDS: Final = _table()

CODES: Final = frozenset(one.code for one in _HAZARDS.values()) | {SET_ORDER.code}
"""Every code that a finding may have."""

LAST_NAMES: Final = frozenset(name.rpartition(".")[2] for name in _HAZARDS)
"""How the names of all hazards end; whatever ends otherwise need not be looked up (but for `*`)."""


def find(name: str) -> tuple[str, Hazard] | None:
    """The hazard of a call by its dotted name, with the name under which it is documented; None when it is none."""
    parts = name.split(".")
    if len(parts) < 2:
        return None
    for own in (2, 1):  # how many leading parts name a module that is documented elsewhere
        if (known := _OWN_NAMES.get(".".join(parts[:own]))) is not None and len(parts) > own:
            parts = [*known.split("."), *parts[own:]]
            break
    private = [n for n in range(1, len(parts) - 1) if parts[n].islower()]  # a class on the way stays
    for candidate in (parts, *(parts[:n] + parts[n + 1 :] for n in private)):
        name = ".".join(candidate)
        if name in _HAZARDS:
            return name, _HAZARDS[name]
    any_other = _HAZARDS.get(".".join((*parts[:-1], "*")))
    return None if any_other is None else (".".join(parts), any_other)


_PLAIN: Final = (type, FunctionType, BuiltinFunctionType, MethodType)


def names_of(called: object) -> list[str]:
    """The dotted names under which an object that can be called may be documented; the first is its own."""
    if not isinstance(called, _PLAIN):  # anything else may run code of its own when it is asked for its name
        return []
    owner = getattr(called, "__self__", None)
    name = called.__name__
    if isinstance(owner, ModuleType):
        return [f"{owner.__name__}.{name}"]
    if owner is not None and owner is shared_random():
        return [f"random.{name}"]
    if owner is not None:
        return member_names(owner if isinstance(owner, type) else type(owner), name)
    module, whole = getattr(called, "__module__", None), getattr(called, "__qualname__", None)
    return [f"{module}.{whole}"] if isinstance(module, str) and isinstance(whole, str) else []


def shared_random() -> object:
    """The generator whose methods the functions of `random` are, where that module is loaded."""
    return getattr(sys.modules.get("random"), "_inst", None)


def member_names(kind: type, name: str) -> list[str]:
    """The dotted names of a class's member, from the class itself up."""
    return [f"{one.__module__}.{one.__qualname__}.{name}" for one in type.mro(kind) if one is not object]


def is_environment(thing: object) -> bool:
    """Whether an object is the process's environment, or its command line, or a view of one."""
    return any(thing is one for one in (os.environ, getattr(os, "environb", None), sys.argv) if one is not None)
