"""``python -m tdxc.cli``: the command line without its console script."""

from tdxc.cli.main import main

main()
