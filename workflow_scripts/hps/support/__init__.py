"""What every room uses: errors, files, the command line, provenance, progress. It knows nothing of the method."""
