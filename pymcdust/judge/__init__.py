"""Whether an answer may be believed: convergence of posteriors, and the report on it."""
