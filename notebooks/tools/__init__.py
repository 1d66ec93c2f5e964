"""Execute, synchronise and derive from the notebooks: student versions, book, slides."""
