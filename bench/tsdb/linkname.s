// A function without a body, as main.go has one, needs a file of assembly in its package; this is it.
