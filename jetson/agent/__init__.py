"""What a device runs: `python3 coop-agent.pyz probe | build | check | bench`, from one file, with nothing installed."""
