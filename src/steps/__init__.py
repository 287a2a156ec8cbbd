"""The steps of an entry point, in order: assemble the parts, say what there is, fit, score, write the results."""
