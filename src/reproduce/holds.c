
static UNUSED struct result hold_path(const char *name, const char *as)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", thing(name)->fd);
	thing(as)->fd = open(path, O_PATH | O_CLOEXEC);
	return thing(as)->fd < 0 ? failure(errno) : value("null");
}
