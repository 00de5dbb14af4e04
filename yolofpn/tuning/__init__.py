"""Choice of the fastest backend and precision: ``yolofpn tune``."""
