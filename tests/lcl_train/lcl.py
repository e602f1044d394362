"""The `lcl` command of this tree, as a module that torchrun can start."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
