"""One module per noun: its COMMANDS (or COMMAND) with flags and help, and the code behind them."""
