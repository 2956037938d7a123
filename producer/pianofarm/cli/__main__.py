"""`python -m pianofarm.cli`: the `pianofarm` command where its script is not on the path."""

from pianofarm.cli import main

if __name__ == "__main__":
    main()
