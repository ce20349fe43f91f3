/** A thread that does nothing: what a first thread opens for good is open after it. */
export {};
