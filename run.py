"""python run.py experiment=toonfaces_red_hair — the same as the installed ``dclip`` command."""

from dclip.cli.command import main

if __name__ == "__main__":
    main()
