"""The ablation studies of the FPN paper: ``python -m yolofpn study``. Not part of the installed package."""
