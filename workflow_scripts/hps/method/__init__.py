"""The paper's method (Secs. 3, 4; Apps. A, E): objectives, parameterizations, losses, sampling. No files, no models."""
