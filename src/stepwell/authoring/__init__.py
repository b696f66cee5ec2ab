"""How authors write workflows in plain Python: `@task`, `@workflow`, `ctx`."""
