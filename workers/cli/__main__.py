"""`python -m workers.cli`: how the supervisor starts the platform's own processes."""

from workers.cli import main

if __name__ == "__main__":
    main()
