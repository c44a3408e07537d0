"""The command line: one module per command, click and printing only here."""
