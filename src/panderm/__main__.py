"""``python -m panderm``."""

from panderm.cli import main

main()
