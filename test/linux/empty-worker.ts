/** A thread that does nothing. Everything that a first thread opens for good is open after it. */
export {};
