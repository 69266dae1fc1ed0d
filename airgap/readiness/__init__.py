"""Rules over what the readers saw: pure, so that a judgement can be repeated from the same bytes."""
