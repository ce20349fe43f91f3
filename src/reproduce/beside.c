
/*
 * A step beside the others runs in a child process, which closes the descriptors that it inherits. A child that is not
 * done after BLOCKED_MS waits for something that a later step does.
 */
#define BLOCKED_MS 2500
#define JOIN_MS 12000

static UNUSED int ended_within(struct thing *child, int ms)
{
	int status;

	for (; child->fd; ms -= 20) {
		if (waitpid(child->fd, &status, WNOHANG) == child->fd) {
			child->fd = 0;
			child->id = WEXITSTATUS(status);
		} else if (ms <= 0) {
			return 0;
		} else {
			usleep(20000);
		}
	}
	return 1;
}

/* Returns 1 in the child, which takes the step and exits with its errno. */
static UNUSED int begin(const char *name, struct result *result)
{
	struct thing *child = thing(name);
	int fd;

	fflush(stdout);
	child->fd = fork();
	if (child->fd < 0)
		cannot("fork");
	if (!child->fd) {
		for (fd = 3; fd < 256; fd++)
			close(fd);
		return 1;
	}
	*result = value(ended_within(child, BLOCKED_MS) ? "ended" : "blocked");
	return 0;
}

#define START(name, step)                                                            \
	({                                                                           \
		struct result begun;                                                 \
		if (begin(name, &begun))                                             \
			_exit(strcmp((step).text, "null") ? (errno ? errno : 255) : 0); \
		begun;                                                               \
	})

static UNUSED struct result join(const char *name)
{
	struct thing *child = thing(name);

	if (!ended_within(child, JOIN_MS))
		return value("blocked");
	return child->id ? failure(child->id) : value("null");
}
