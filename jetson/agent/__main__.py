"""The agent from a folder, `python3 -m jetson.agent`: the same as from its one file."""

import sys

from jetson.agent.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
