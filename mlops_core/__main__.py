"""The command `mlops`."""


def main() -> int:
    from mlops_core.cli.main import main as run

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
