// A library without an init function.
int answer(void) { return 42; }
