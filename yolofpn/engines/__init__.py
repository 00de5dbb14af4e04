"""Detection over many images by an engine that shares the work among machines: ``detect.py --engine ray``.

``listing`` names the images, ``units`` groups them, ``unit_detector`` detects in a unit and writes its part file,
``ray_data`` hands the units to workers of a ``cluster``, and ``engine_run`` is the command. Only ``ray_data`` and
``cluster`` know the engine.
"""
