"""Tasks with requirements on the command line: installed when somebody says so, looked at, pruned."""

from __future__ import annotations

import re
import shlex
import zipfile
from pathlib import Path

import pytest
from command_line import Cli, until

SCRIPT = """
from stepwell import task, workflow


@task(requires=["swtint @ {wheel}"])
def paint(colour: str) -> str:
    '''In one colour.'''
    import swtint

    return f"{{colour}} {{swtint.VERSION}}"


@task(name="broken", requires=["swtint @ {wheel}", "nowhere-to-be-found"])
def broken_one() -> None: ...


@workflow
async def paints(colour: str) -> str:
    return await paint.aio(colour)
"""


@pytest.fixture
def painting(cli: Cli) -> Cli:
    """With a script whose task needs a package, which is a wheel made by hand."""
    wheel = cli.folder / "swtint-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("swtint.py", "VERSION = '1.0'\n")
        archive.writestr("swtint-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: swtint\nVersion: 1.0\n")
        archive.writestr("swtint-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("swtint-1.0.dist-info/RECORD", "")
    (cli.folder / "shop.py").write_text(SCRIPT.format(wheel=wheel.as_uri()))
    cli.environment |= {"PIP_NO_INDEX": "1", "UV_NO_INDEX": "1", "UV_OFFLINE": "1"}
    cli.environment["STEPWELL_ENVS"] = str(cli.folder / "envs")
    return cli


def test_the_command_that_the_failure_names_installs_and_the_run_can_go_on(painting: Cli) -> None:
    failed = painting("run", "shop.py:paints", "-i", '"red"', "--id", "p")
    assert failed.returncode == 1
    said = re.search(r"stepwell (tasks install \S+), and then: stepwell (retry p)\b", failed.stderr)
    assert said is not None, failed.stderr
    assert not (painting.folder / "envs").exists()

    installed = painting(*shlex.split(said[1]))
    assert installed.returncode == 0, installed.stderr
    assert re.fullmatch(r"paint: installed in \S+/envs/[0-9a-f]{20} \(swtint 1\.0\)\n", installed.stdout)
    assert "swtint" in installed.stderr, "progress"
    assert painting("retry", "p").stdout.strip() == '"red 1.0"'

    (one,) = painting.json("tasks", "envs")["environments"]
    assert [(use["task"], use["file"]) for use in one["used_by"]] == [("paint", str(painting.folder / "shop.py"))]
    assert one["packages"] == {"swtint": "1.0"}
    assert one["size"] > 100
    again = painting.json("tasks", "install", "shop.py:paint")
    assert [(done["task"], done["was_there"], done["path"]) for done in again["installed"]] == [
        ("paint", True, one["path"])
    ]


@pytest.mark.campaign
def test_environments_are_listed_and_pruned(painting: Cli) -> None:
    assert "no environments" in painting("tasks", "envs").stderr
    both = painting("tasks", "install", "shop.py")
    assert both.returncode == 1
    assert "paint: installed in" in both.stdout, "one that fails keeps no other from being installed"
    assert "task 'broken': environment for nowhere-to-be-found, swtint @ file:///" in both.stderr
    shown = painting("tasks", "envs").stdout
    assert re.search(r"MB +swtint @ file:\S+ +cpython 3\.\d+t? +paint \(\S+/shop\.py\)", shown)
    assert re.search(r"requires swtint @ \S+ \(installed\)", painting("tasks", "shop.py:paint").stdout)
    assert painting.json("tasks", "prune") == {"removed": [], "left": 1}
    (painting.folder / "shop.py").unlink()
    assert re.match(r"removed \S+/envs/\S+ \(", painting("tasks", "prune").stdout)
    assert painting.json("tasks", "envs") == {"environments": []}


@pytest.mark.campaign
def test_an_install_that_is_killed_is_waited_for_and_done_again(painting: Cli) -> None:
    source = painting.folder / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "swslow"\nversion = "1"\n'
    )
    (source / "backend.py").write_text(
        f"import shutil, time\nfrom pathlib import Path\n\nfolder = Path({str(painting.folder)!r})\n\n"
        "def build_wheel(to, *rest, **more):\n"
        "    (folder / 'begun').touch()\n"
        "    while not (folder / 'release').exists():\n"
        "        time.sleep(0.01)\n"
        "    wheel = folder / 'swtint-1.0-py3-none-any.whl'\n"
        "    shutil.copy(wheel, Path(to) / wheel.name)\n"
        "    return wheel.name\n"
    )
    (painting.folder / "shop.py").write_text(SCRIPT.format(wheel=source.as_uri()))
    killed = painting.begin("tasks", "install", "shop.py:paint")
    until((painting.folder / "begun").exists)
    killed.kill()
    second = painting.begin("tasks", "install", "shop.py:paint")
    assert second.stderr is not None
    assert "another process installs this environment" in second.stderr.readline()
    assert painting.json("tasks", "envs") == {"environments": []}
    painting.release()
    out, err = second.communicate(timeout=30)
    assert "paint: installed in" in out, err
    assert len(painting.json("tasks", "envs")["environments"]) == 1


def test_what_is_to_be_installed_must_be_named_and_there(painting: Cli) -> None:
    wrong = painting("tasks", "install")
    assert wrong.returncode == 2
    assert "say --all" in wrong.stderr
    missing = painting("tasks", "install", "shop.py:pain")
    assert missing.returncode == 3
    assert "has no task 'pain'; did you mean 'paint'?" in missing.stderr
    assert painting("tasks", "install", "nowhere").returncode == 3
    assert "nothing to install" in painting("tasks", "install", "flows.py").stderr


@pytest.mark.campaign
def test_tasks_of_installed_distributions_are_known_by_name(painting: Cli) -> None:
    about = painting.folder / "swextra-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: swextra\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[stepwell.tasks]\npaint = shop:paint\n")
    painting.environment["PYTHONPATH"] += f":{painting.folder}"
    assert [one["name"] for one in painting.json("tasks")["tasks"]] == ["paint"]
    assert re.search(r"paint +In one colour\. +shop:paint", painting("tasks").stdout)
    assert "paint: installed in" in painting("tasks", "install", "paint").stdout
    assert painting("tasks", "install", "pain").returncode == 3
    assert painting.json("tasks", "install", "--all")["installed"][0]["was_there"] is True
    assert painting.json("tasks", "list", "shop.py:paint")["tasks"][0]["requires"][0].startswith("swtint @ ")


def test_without_tasks_the_list_says_how_to_name_a_script(cli: Cli) -> None:
    done = cli("tasks")
    assert done.returncode == 0
    assert "stepwell tasks shop.py" in done.stderr
    assert Path(cli.folder / "flows.py").exists()
    assert "adds(count: int" in cli("tasks", "flows.py").stdout
