"""The human study of Table 3: pages for raters, the key that unblinds them, and what the returned ratings say."""
