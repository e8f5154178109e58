"""The paper's method (Secs. 3, 4; App. A): objectives, parameterizations, losses, sampling. No files, no models."""
