"""The console and its serial port."""
