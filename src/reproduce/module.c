
/* The importer is the module of Barter's lab (lab/importer/barter_importer.c), which the lab's guests have. */

#define MODULE "/sys/kernel/debug/barter/importer"

static UNUSED struct result tell(int fd, const char *command)
{
	return nothing(write(fd, command, strlen(command)));
}

static UNUSED struct result attach_importer(const char *buffer, struct device *device, const char *name,
					    const char *how)
{
	char command[128];
	int fd = open(MODULE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		cannot("this program needs the importer of Barter's lab, " MODULE);
	thing(name)->fd = fd;
	snprintf(command, sizeof(command), "attach %d %s %s", thing(buffer)->fd, device->bdf, how);
	return tell(fd, command);
}

/* The text between the brackets of a list in a reply. */
static UNUSED void list_of(const char *reply, const char *name, char *list, size_t size)
{
	const char *from = strstr(reply, name);

	from = from ? strchr(from, '[') : NULL;
	snprintf(list, size, "%.*s", from ? (int)(strrchr(from, ']') - from + 1) : 0, from ? from : "");
}

/* Gives the length of each segment. */
static UNUSED struct result map_importer(const char *importer, const char *name)
{
	struct result result = tell(thing(importer)->fd, "map");
	char reply[4096] = "", list[4096], lengths[256] = "[";
	char *at;

	if (strcmp(result.text, "null"))
		return result;
	if (read(thing(importer)->fd, reply, sizeof(reply) - 1) < 0)
		return failure(errno);
	thing(name)->fd = thing(importer)->fd;
	sscanf(reply, "{\"map\":%d", &thing(name)->id);
	list_of(reply, "segments", list, sizeof(list));
	for (at = strchr(list, ','); at; at = strchr(at + 1, '[') ? strchr(strchr(at + 1, '['), ',') : NULL)
		snprintf(lengths + strlen(lengths), sizeof(lengths) - strlen(lengths), "%s%ld",
			 lengths[1] ? "," : "", strtol(at + 1, NULL, 0));
	return value("%s]", lengths);
}

static UNUSED struct result unmap_importer(const char *name)
{
	char command[32];

	snprintf(command, sizeof(command), "unmap %d", thing(name)->id);
	return tell(thing(name)->fd, command);
}

static UNUSED struct result detach_importer(const char *importer)
{
	return tell(thing(importer)->fd, "detach");
}

static UNUSED struct result callbacks(const char *importer)
{
	struct result result = tell(thing(importer)->fd, "callbacks");
	char reply[4096] = "", list[400];

	if (strcmp(result.text, "null"))
		return result;
	if (read(thing(importer)->fd, reply, sizeof(reply) - 1) < 0)
		return failure(errno);
	list_of(reply, "callbacks", list, sizeof(list));
	return value("%s", list);
}
