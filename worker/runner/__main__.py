"""`python -P -m worker.runner`: how an agent starts its training process."""

from worker.runner.runner import main

if __name__ == "__main__":
    main()
