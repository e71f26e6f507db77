package applier
