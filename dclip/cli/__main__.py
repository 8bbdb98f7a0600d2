"""``python -m dclip.cli``: as the installed ``dclip`` command."""

from dclip.cli.command import main  # functions that launchers hand on must not be those of __main__

if __name__ == "__main__":
    main()
