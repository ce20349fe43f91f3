// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * An importer of dma-bufs that obeys commands, for Barter's lab.
 *
 * Each open of <debugfs>/barter/importer is one importer with at most one attachment. A command is one write(2). It
 * returns the errno of the kernel's own function, or the length of the write. The next read(2) returns the command's
 * reply, one line of JSON. Closing the file signals its fences, unmaps, detaches, and drops the buffer.
 *
 *   attach FD DDDD:BB:DD.F dynamic|static|no-p2p|no-callback unmap|keep|remap 32|64  bits of its DMA mask
 *   map                      -> {"map":ID,"segments":[[ADDRESS,LENGTH],...]}
 *   unmap ID
 *   detach
 *   pin | unpin
 *   fence kernel|write|read|bookkeep   -> {"fence":ID}
 *   signal ID
 *   callbacks                -> {"callbacks":[LIVE,...]}  the live mappings at each call; empties the list
 *   order                    -> {"order":[N,...]}  each call's number among those of all importers; empties the list
 *   fill ID OFFSET LENGTH SEED  the device's DMA engine copies a pattern into the mapping
 *   sum ID OFFSET LENGTH     -> {"crc32":N}  of bytes that the DMA engine copied out of the mapping
 *   poke ID OFFSET HEX       the DMA engine writes these bytes
 *   peek ID OFFSET LENGTH    -> {"bytes":"HEX"}
 *   submit ID OFFSET LENGTH SEED  as fill, but returns while the copy is under way
 *   collect                  -> {"result":"done|read-failed|write-failed|aborted","parts":DONE,"of":ALL}
 *   raw ADDRESS LENGTH SEED  copies the pattern to any address, as a broken driver might
 *   memcpy DDDD:BB:DD.F FROM TO LENGTH SEED  copies within memory that holds the pattern, then checks every byte
 *                            -> {"wrong":N}
 *
 * A copy whose engine reports a failure gives EIO, and one that never ends ETIMEDOUT.
 *
 * Locks: `lock` of the importer, then the reservation, then the spinlock `events`. The invalidate callback runs with
 * the reservation held and takes only `events`. The reservation guards the mappings. The callbacks of the DMA engine
 * take no lock.
 */
#include <linux/crc32.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/dmaengine.h>
#include <linux/hex.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define MAX_CALLBACKS 4096
#define MAX_COMMAND (64 * 1024)
#define MAX_COPY (4 * 1024 * 1024)
/* Bytes of one descriptor. ioatdma takes an engine for hung if a descriptor takes too long. */
#define COPY_PART (64 * 1024)
#define COPY_TIMEOUT_MS 30000
/* Bytes of the pattern behind a memcpy, which must not change. */
#define GUARD 64

struct mapping {
	struct list_head node;
	unsigned int id;
	struct sg_table *table;
};

struct told_fence {
	struct list_head node;
	unsigned int id;
	struct dma_fence *fence;
};

/* The DMA engine of a device, and its copy. An engine has at most one copy. */
struct engine {
	struct pci_dev *pdev;
	struct dma_chan *chan;
	u8 *buffer;
	dma_addr_t address;
	size_t size;
	struct completion finished;
	atomic_t pending;
	atomic_t succeeded;
	atomic_t result;
	unsigned int parts;
	bool under_way;
};

struct importer {
	struct mutex lock;
	struct engine engine;
	struct dma_buf *dmabuf;
	struct pci_dev *pdev;
	struct dma_buf_attachment *attach;
	bool unmap_on_invalidate;
	bool map_on_invalidate;
	struct list_head mappings;
	struct list_head fences;
	unsigned int next_id;
	spinlock_t events;
	unsigned int callback_count;
	unsigned int callbacks[MAX_CALLBACKS];
	unsigned int order_count;
	unsigned int order[MAX_CALLBACKS];
	char *reply;
	size_t reply_len;
};

static struct dentry *folder;
static atomic_t callback_number;

static void set_reply(struct importer *imp, char *text)
{
	kfree(imp->reply);
	imp->reply = text;
	imp->reply_len = text ? strlen(text) : 0;
}

static struct mapping *find_mapping(struct importer *imp, unsigned int id)
{
	struct mapping *map;

	list_for_each_entry(map, &imp->mappings, node)
		if (map->id == id)
			return map;
	return NULL;
}

static void drop_mapping(struct importer *imp, struct mapping *map)
{
	dma_buf_unmap_attachment(imp->attach, map->table, DMA_BIDIRECTIONAL);
	list_del(&map->node);
	kfree(map);
}

/* The caller holds the reservation. */
static int add_mapping(struct importer *imp, struct mapping **added)
{
	struct mapping *map = kzalloc(sizeof(*map), GFP_KERNEL);

	if (!map)
		return -ENOMEM;
	map->table = dma_buf_map_attachment(imp->attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(map->table)) {
		int ret = PTR_ERR(map->table);

		kfree(map);
		return ret;
	}
	map->id = imp->next_id++;
	list_add_tail(&map->node, &imp->mappings);
	*added = map;
	return 0;
}

static void on_invalidate(struct dma_buf_attachment *attach)
{
	struct importer *imp = attach->importer_priv;
	struct mapping *map, *next;
	unsigned int live = 0;

	list_for_each_entry(map, &imp->mappings, node)
		live++;
	spin_lock(&imp->events);
	if (imp->callback_count < MAX_CALLBACKS)
		imp->callbacks[imp->callback_count++] = live;
	if (imp->order_count < MAX_CALLBACKS)
		imp->order[imp->order_count++] = atomic_inc_return(&callback_number);
	spin_unlock(&imp->events);
	if (imp->unmap_on_invalidate)
		list_for_each_entry_safe(map, next, &imp->mappings, node)
			drop_mapping(imp, map);
	if (imp->map_on_invalidate)
		add_mapping(imp, &map);
}

static const struct dma_buf_attach_ops dynamic_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = on_invalidate,
};

static const struct dma_buf_attach_ops no_p2p_ops = {
	.allow_peer2peer = false,
	.invalidate_mappings = on_invalidate,
};

static const struct dma_buf_attach_ops no_callback_ops = {
	.allow_peer2peer = true,
};

static const char *fence_name(struct dma_fence *fence)
{
	return "barter_importer";
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name = fence_name,
	.get_timeline_name = fence_name,
};

static int cmd_attach(struct importer *imp, const char *args)
{
	unsigned int domain, bus, slot, func, bits;
	char kind[16], on_invalidate_do[8];
	struct dma_buf_attachment *attach;
	const struct dma_buf_attach_ops *ops;
	struct dma_buf *dmabuf;
	struct pci_dev *pdev;
	int fd;

	if (sscanf(args, "%d %x:%x:%x.%x %15s %7s %u", &fd, &domain, &bus, &slot, &func, kind, on_invalidate_do,
		   &bits) != 8 || (bits != 32 && bits != 64))
		return -EBADMSG;
	if (imp->attach)
		return -EALREADY;
	if (!strcmp(kind, "dynamic"))
		ops = &dynamic_ops;
	else if (!strcmp(kind, "no-p2p"))
		ops = &no_p2p_ops;
	else if (!strcmp(kind, "no-callback"))
		ops = &no_callback_ops;
	else if (!strcmp(kind, "static"))
		ops = NULL;
	else
		return -EBADMSG;
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, func));
	if (!pdev)
		return -ENXIO;
	dmabuf = dma_buf_get(fd);
	if (IS_ERR(dmabuf)) {
		pci_dev_put(pdev);
		return PTR_ERR(dmabuf);
	}
	/* Sets the DMA mask in place of a driver, if the device has none. */
	if (!pdev->dev.driver || !strcmp(pdev->dev.driver->name, "vfio-pci"))
		dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(bits));
	imp->map_on_invalidate = !strcmp(on_invalidate_do, "remap");
	imp->unmap_on_invalidate = imp->map_on_invalidate || !strcmp(on_invalidate_do, "unmap");
	if (ops)
		attach = dma_buf_dynamic_attach(dmabuf, &pdev->dev, ops, imp);
	else
		attach = dma_buf_attach(dmabuf, &pdev->dev);
	if (IS_ERR(attach)) {
		dma_buf_put(dmabuf);
		pci_dev_put(pdev);
		return PTR_ERR(attach);
	}
	imp->attach = attach;
	imp->dmabuf = dmabuf;
	imp->pdev = pdev;
	return 0;
}

static int cmd_map(struct importer *imp)
{
	struct scatterlist *sg;
	struct mapping *map;
	char *text = NULL;
	int i, len, ret;

	dma_resv_lock(imp->dmabuf->resv, NULL);
	ret = add_mapping(imp, &map);
	if (!ret)
		text = kmalloc(map->table->nents * 48 + 64, GFP_KERNEL);
	if (text) {
		len = sprintf(text, "{\"map\":%u,\"segments\":[", map->id);
		for_each_sgtable_dma_sg(map->table, sg, i)
			len += sprintf(text + len, "%s[\"0x%llx\",%u]", i ? "," : "",
				       (unsigned long long)sg_dma_address(sg), sg_dma_len(sg));
		sprintf(text + len, "]}\n");
	}
	dma_resv_unlock(imp->dmabuf->resv);
	set_reply(imp, text);
	return ret;
}

static int cmd_unmap(struct importer *imp, const char *args)
{
	struct mapping *map;
	unsigned int id;
	int ret = -EINVAL;

	if (kstrtouint(args, 10, &id))
		return -EBADMSG;
	dma_resv_lock(imp->dmabuf->resv, NULL);
	map = find_mapping(imp, id);
	if (map) {
		drop_mapping(imp, map);
		ret = 0;
	}
	dma_resv_unlock(imp->dmabuf->resv);
	return ret;
}

static void signal_one(struct told_fence *told)
{
	dma_fence_signal(told->fence);
	dma_fence_put(told->fence);
	list_del(&told->node);
	kfree(told);
}

/* Afterwards the engine copies nothing, and none of its callbacks runs. */
static void engine_close(struct engine *engine)
{
	if (engine->chan) {
		dmaengine_terminate_sync(engine->chan);
		dma_release_channel(engine->chan);
	}
	if (engine->buffer)
		dma_free_coherent(&engine->pdev->dev, engine->size, engine->buffer, engine->address);
	pci_dev_put(engine->pdev);
	memset(engine, 0, sizeof(*engine));
}

/* Fences stay until they are signalled, also after the attachment. */
static void detach(struct importer *imp)
{
	struct mapping *map, *next;

	engine_close(&imp->engine);
	if (!imp->attach)
		return;
	dma_resv_lock(imp->dmabuf->resv, NULL);
	list_for_each_entry_safe(map, next, &imp->mappings, node)
		drop_mapping(imp, map);
	dma_resv_unlock(imp->dmabuf->resv);
	dma_buf_detach(imp->dmabuf, imp->attach);
	dma_buf_put(imp->dmabuf);
	pci_dev_put(imp->pdev);
	imp->attach = NULL;
	imp->dmabuf = NULL;
	imp->pdev = NULL;
}

static int cmd_pin(struct importer *imp, bool pin)
{
	int ret = 0;

	dma_resv_lock(imp->dmabuf->resv, NULL);
	if (pin)
		ret = dma_buf_pin(imp->attach);
	else
		dma_buf_unpin(imp->attach);
	dma_resv_unlock(imp->dmabuf->resv);
	return ret;
}

static int cmd_fence(struct importer *imp, const char *args)
{
	enum dma_resv_usage usage;
	struct told_fence *told;
	struct dma_fence *fence;
	int ret;

	if (!strcmp(args, "kernel"))
		usage = DMA_RESV_USAGE_KERNEL;
	else if (!strcmp(args, "write"))
		usage = DMA_RESV_USAGE_WRITE;
	else if (!strcmp(args, "read"))
		usage = DMA_RESV_USAGE_READ;
	else if (!strcmp(args, "bookkeep"))
		usage = DMA_RESV_USAGE_BOOKKEEP;
	else
		return -EBADMSG;
	told = kzalloc(sizeof(*told), GFP_KERNEL);
	fence = kzalloc(sizeof(*fence), GFP_KERNEL);
	if (!told || !fence) {
		kfree(told);
		kfree(fence);
		return -ENOMEM;
	}
	dma_fence_init(fence, &fence_ops, NULL, dma_fence_context_alloc(1), 1);
	dma_resv_lock(imp->dmabuf->resv, NULL);
	ret = dma_resv_reserve_fences(imp->dmabuf->resv, 1);
	if (!ret)
		dma_resv_add_fence(imp->dmabuf->resv, fence, usage);
	dma_resv_unlock(imp->dmabuf->resv);
	if (ret) {
		dma_fence_put(fence);
		kfree(told);
		return ret;
	}
	told->fence = fence;
	told->id = imp->next_id++;
	list_add_tail(&told->node, &imp->fences);
	set_reply(imp, kasprintf(GFP_KERNEL, "{\"fence\":%u}\n", told->id));
	return 0;
}

static int cmd_signal(struct importer *imp, const char *args)
{
	struct told_fence *told;
	unsigned int id;

	if (kstrtouint(args, 10, &id))
		return -EBADMSG;
	list_for_each_entry(told, &imp->fences, node) {
		if (told->id == id) {
			signal_one(told);
			return 0;
		}
	}
	return -EINVAL;
}

/* Reports a list that callbacks add to, and empties it. */
static int cmd_list(struct importer *imp, const char *name, const unsigned int *list, unsigned int *list_count)
{
	unsigned int i, count, *copy;
	char *text;
	int len;

	copy = kmalloc_array(MAX_CALLBACKS, sizeof(*copy), GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	spin_lock(&imp->events);
	count = *list_count;
	memcpy(copy, list, count * sizeof(*copy));
	*list_count = 0;
	spin_unlock(&imp->events);
	text = kmalloc(count * 12 + 32, GFP_KERNEL);
	if (text) {
		len = sprintf(text, "{\"%s\":[", name);
		for (i = 0; i < count; i++)
			len += sprintf(text + len, "%s%u", i ? "," : "", copy[i]);
		sprintf(text + len, "]}\n");
	}
	kfree(copy);
	set_reply(imp, text);
	return text ? 0 : -ENOMEM;
}

static bool is_channel_of(struct dma_chan *chan, void *dev)
{
	return chan->device->dev == dev;
}

/* Opens the engine of a device, with at least `size` bytes of memory that it reaches. */
static int engine_open(struct engine *engine, struct pci_dev *pdev, size_t size)
{
	dma_cap_mask_t mask;

	if (engine->pdev != pdev || engine->under_way)
		engine_close(engine);
	if (!engine->chan) {
		dma_cap_zero(mask);
		dma_cap_set(DMA_MEMCPY, mask);
		engine->chan = dma_request_channel(mask, is_channel_of, &pdev->dev);
		if (!engine->chan)
			return -ENODEV;
		engine->pdev = pci_dev_get(pdev);
	}
	if (engine->size >= size)
		return 0;
	if (engine->buffer)
		dma_free_coherent(&pdev->dev, engine->size, engine->buffer, engine->address);
	engine->size = 0;
	engine->buffer = dma_alloc_coherent(&pdev->dev, size, &engine->address, GFP_KERNEL);
	if (!engine->buffer)
		return -ENOMEM;
	engine->size = size;
	return 0;
}

/* Ends one part of a copy, or gives back the bias of engine_begin. */
static void engine_put(struct engine *engine)
{
	if (atomic_dec_and_test(&engine->pending))
		complete(&engine->finished);
}

static void part_done(void *param, const struct dmaengine_result *result)
{
	struct engine *engine = param;

	if (result->result == DMA_TRANS_NOERROR)
		atomic_inc(&engine->succeeded);
	else
		atomic_cmpxchg(&engine->result, DMA_TRANS_NOERROR, result->result);
	engine_put(engine);
}

static void engine_begin(struct engine *engine)
{
	init_completion(&engine->finished);
	atomic_set(&engine->pending, 1);
	atomic_set(&engine->succeeded, 0);
	atomic_set(&engine->result, DMA_TRANS_NOERROR);
	engine->parts = 0;
	engine->under_way = true;
}

/*
 * Waits for a descriptor. After an error ioatdma restarts a channel that it takes for hung, and gives no descriptors
 * until the restart is over.
 */
static struct dma_async_tx_descriptor *engine_descriptor(struct engine *engine, dma_addr_t to, dma_addr_t from,
							 size_t length)
{
	unsigned long deadline = jiffies + msecs_to_jiffies(COPY_TIMEOUT_MS);
	struct dma_async_tx_descriptor *tx;

	for (;;) {
		tx = dmaengine_prep_dma_memcpy(engine->chan, to, from, length, DMA_PREP_INTERRUPT | DMA_CTRL_ACK);
		if (tx || time_after(jiffies, deadline))
			return tx;
		msleep(1);
	}
}

static int engine_part(struct engine *engine, dma_addr_t to, dma_addr_t from, size_t length)
{
	struct dma_async_tx_descriptor *tx = engine_descriptor(engine, to, from, length);

	if (!tx)
		return -EAGAIN;
	tx->callback_result = part_done;
	tx->callback_param = engine;
	atomic_inc(&engine->pending);
	engine->parts++;
	return dma_submit_error(dmaengine_submit(tx)) ? -EAGAIN : 0;
}

/* Starts the submitted descriptors. */
static void engine_go(struct engine *engine)
{
	dma_async_issue_pending(engine->chan);
	engine_put(engine);
}

/* Waits for the end of the copy. Closes an engine that does not reach it, so nothing of the copy is left. */
static int engine_wait(struct engine *engine)
{
	if (!wait_for_completion_timeout(&engine->finished, msecs_to_jiffies(COPY_TIMEOUT_MS))) {
		engine_close(engine);
		return -ETIMEDOUT;
	}
	engine->under_way = false;
	return atomic_read(&engine->result) == DMA_TRANS_NOERROR ? 0 : -EIO;
}

/* Finds the device's address of an offset in a mapping, and the number of bytes that follow it in its segment. */
static int find_place(struct importer *imp, unsigned int id, u64 offset, dma_addr_t *address, size_t *part)
{
	struct scatterlist *sg;
	struct mapping *map;
	int i, ret = -EINVAL;
	u64 at = 0;

	dma_resv_lock(imp->dmabuf->resv, NULL);
	map = find_mapping(imp, id);
	if (map) {
		ret = -ERANGE;
		for_each_sgtable_dma_sg(map->table, sg, i) {
			if (offset < at + sg_dma_len(sg)) {
				*address = sg_dma_address(sg) + (offset - at);
				*part = min_t(u64, *part, at + sg_dma_len(sg) - offset);
				ret = 0;
				break;
			}
			at += sg_dma_len(sg);
		}
	}
	dma_resv_unlock(imp->dmabuf->resv);
	return ret;
}

/*
 * Starts a copy between the engine's buffer and an offset in a mapping, segment by segment. The lookup holds the
 * reservation and the copy does not, so that a revoke can come in between.
 */
static int start_copy(struct importer *imp, unsigned int id, u64 offset, size_t length, bool to_mapping)
{
	struct engine *engine = &imp->engine;
	dma_addr_t buffer = engine->address;
	int ret = 0;

	engine_begin(engine);
	while (length > 0 && !ret) {
		size_t part = min_t(size_t, length, COPY_PART);
		dma_addr_t address;

		ret = find_place(imp, id, offset, &address, &part);
		if (!ret)
			ret = engine_part(engine, to_mapping ? address : buffer, to_mapping ? buffer : address, part);
		offset += part;
		buffer += part;
		length -= part;
	}
	engine_go(engine);
	return ret;
}

static u8 pattern(u32 seed, u64 at)
{
	u32 x = (u32)(at * 2654435761u) ^ seed;

	x ^= x >> 15;
	x *= 0x2c1b3c6du;
	x ^= x >> 12;
	return x;
}

static int cmd_copy(struct importer *imp, const char *verb, char *args)
{
	bool to_mapping = strcmp(verb, "sum") && strcmp(verb, "peek");
	bool fills = !strcmp(verb, "fill") || !strcmp(verb, "submit");
	struct engine *engine = &imp->engine;
	unsigned int id, length, seed = 0;
	unsigned long long offset;
	int n = 0, ret, waited;
	size_t i;

	if (sscanf(args, "%u %llu %n", &id, &offset, &n) < 2 || !n)
		return -EBADMSG;
	args += n;
	if (!strcmp(verb, "poke"))
		length = strlen(args) / 2;
	else if (fills ? sscanf(args, "%u %u", &length, &seed) != 2 : sscanf(args, "%u", &length) != 1)
		return -EBADMSG;
	if (!length || length > MAX_COPY || (!strcmp(verb, "peek") && length > MAX_COMMAND / 2))
		return -EINVAL;
	ret = engine_open(engine, imp->pdev, length);
	if (ret)
		return ret;
	if (fills)
		for (i = 0; i < length; i++)
			engine->buffer[i] = pattern(seed, offset + i);
	if (!strcmp(verb, "poke") && hex2bin(engine->buffer, args, length))
		return -EBADMSG;
	ret = start_copy(imp, id, offset, length, to_mapping);
	if (!ret && !strcmp(verb, "submit"))
		return 0;
	waited = engine_wait(engine);
	if (!ret)
		ret = waited;
	if (!ret && !strcmp(verb, "sum"))
		set_reply(imp, kasprintf(GFP_KERNEL, "{\"crc32\":%u}\n", crc32_le(~0, engine->buffer, length) ^ ~0));
	if (!ret && !strcmp(verb, "peek")) {
		char *text = kmalloc(length * 2 + 16, GFP_KERNEL);

		if (text) {
			strcpy(text, "{\"bytes\":\"");
			*bin2hex(text + 10, engine->buffer, length) = 0;
			strcat(text, "\"}\n");
		}
		set_reply(imp, text);
	}
	return ret;
}

static int cmd_collect(struct importer *imp)
{
	static const char *const names[] = {
		[DMA_TRANS_NOERROR] = "done",
		[DMA_TRANS_READ_FAILED] = "read-failed",
		[DMA_TRANS_WRITE_FAILED] = "write-failed",
		[DMA_TRANS_ABORTED] = "aborted",
	};
	struct engine *engine = &imp->engine;
	int ret;

	if (!engine->under_way)
		return -EINVAL;
	ret = engine_wait(engine);
	if (ret == -ETIMEDOUT)
		return ret;
	set_reply(imp, kasprintf(GFP_KERNEL, "{\"result\":\"%s\",\"parts\":%d,\"of\":%u}\n",
				 names[atomic_read(&engine->result)], atomic_read(&engine->succeeded), engine->parts));
	return 0;
}

static int cmd_raw(struct importer *imp, const char *args)
{
	struct engine *engine = &imp->engine;
	unsigned int length, seed;
	unsigned long long address;
	int ret, waited;
	size_t i;

	if (sscanf(args, "%llx %u %u", &address, &length, &seed) != 3)
		return -EBADMSG;
	if (!length || length > COPY_PART)
		return -EINVAL;
	ret = engine_open(engine, imp->pdev, length);
	if (ret)
		return ret;
	for (i = 0; i < length; i++)
		engine->buffer[i] = pattern(seed, i);
	engine_begin(engine);
	ret = engine_part(engine, address, engine->address, length);
	engine_go(engine);
	waited = engine_wait(engine);
	return ret ? ret : waited;
}

static int cmd_memcpy(struct importer *imp, const char *args)
{
	unsigned int domain, bus, slot, func, from, to, length, seed, wrong = 0;
	struct engine *engine = &imp->engine;
	struct pci_dev *pdev;
	size_t size, i;
	int ret, waited;

	if (sscanf(args, "%x:%x:%x.%x %u %u %u %u", &domain, &bus, &slot, &func, &from, &to, &length, &seed) != 8)
		return -EBADMSG;
	size = (size_t)max(from, to) + length + GUARD;
	if (!length || size > MAX_COPY || (from < to ? to - from : from - to) < length)
		return -EINVAL;
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, func));
	if (!pdev)
		return -ENXIO;
	ret = engine_open(engine, pdev, MAX_COPY);
	pci_dev_put(pdev);
	if (ret)
		return ret;
	for (i = 0; i < size; i++)
		engine->buffer[i] = pattern(seed, i);
	engine_begin(engine);
	ret = engine_part(engine, engine->address + to, engine->address + from, length);
	engine_go(engine);
	waited = engine_wait(engine);
	if (ret || waited)
		return ret ? ret : waited;
	for (i = 0; i < size; i++)
		wrong += engine->buffer[i] != pattern(seed, i >= to && i < to + length ? from + i - to : i);
	set_reply(imp, kasprintf(GFP_KERNEL, "{\"wrong\":%u}\n", wrong));
	return 0;
}

static int run(struct importer *imp, char *command)
{
	char *args = command;
	char *verb = strsep(&args, " ");

	if (!args)
		args = "";
	set_reply(imp, NULL);
	if (!strcmp(verb, "attach"))
		return cmd_attach(imp, args);
	if (!strcmp(verb, "signal"))
		return cmd_signal(imp, args);
	if (!strcmp(verb, "callbacks"))
		return cmd_list(imp, verb, imp->callbacks, &imp->callback_count);
	if (!strcmp(verb, "order"))
		return cmd_list(imp, verb, imp->order, &imp->order_count);
	if (!strcmp(verb, "collect"))
		return cmd_collect(imp);
	if (!strcmp(verb, "memcpy"))
		return cmd_memcpy(imp, args);
	if (!imp->attach)
		return -EBADF;
	if (!strcmp(verb, "map"))
		return cmd_map(imp);
	if (!strcmp(verb, "unmap"))
		return cmd_unmap(imp, args);
	if (!strcmp(verb, "pin"))
		return cmd_pin(imp, true);
	if (!strcmp(verb, "unpin"))
		return cmd_pin(imp, false);
	if (!strcmp(verb, "fence"))
		return cmd_fence(imp, args);
	if (!strcmp(verb, "fill") || !strcmp(verb, "sum") || !strcmp(verb, "poke") || !strcmp(verb, "peek") ||
	    !strcmp(verb, "submit"))
		return cmd_copy(imp, verb, args);
	if (!strcmp(verb, "raw"))
		return cmd_raw(imp, args);
	if (!strcmp(verb, "detach")) {
		detach(imp);
		return 0;
	}
	return -EBADMSG;
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct importer *imp = kvzalloc(sizeof(*imp), GFP_KERNEL);

	if (!imp)
		return -ENOMEM;
	mutex_init(&imp->lock);
	spin_lock_init(&imp->events);
	INIT_LIST_HEAD(&imp->mappings);
	INIT_LIST_HEAD(&imp->fences);
	file->private_data = imp;
	return 0;
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct importer *imp = file->private_data;
	struct told_fence *told, *next;

	list_for_each_entry_safe(told, next, &imp->fences, node)
		signal_one(told);
	detach(imp);
	kfree(imp->reply);
	kvfree(imp);
	return 0;
}

static ssize_t importer_write(struct file *file, const char __user *from, size_t count, loff_t *ppos)
{
	struct importer *imp = file->private_data;
	char *command;
	int ret;

	if (!count || count > MAX_COMMAND)
		return -E2BIG;
	command = memdup_user_nul(from, count);
	if (IS_ERR(command))
		return PTR_ERR(command);
	mutex_lock(&imp->lock);
	ret = run(imp, strim(command));
	mutex_unlock(&imp->lock);
	kfree(command);
	return ret ? ret : count;
}

static ssize_t importer_read(struct file *file, char __user *to, size_t count, loff_t *ppos)
{
	struct importer *imp = file->private_data;
	ssize_t ret = 0;

	mutex_lock(&imp->lock);
	if (imp->reply && count >= imp->reply_len) {
		ret = copy_to_user(to, imp->reply, imp->reply_len) ? -EFAULT : imp->reply_len;
		set_reply(imp, NULL);
	} else if (imp->reply) {
		ret = -EMSGSIZE;
	}
	mutex_unlock(&imp->lock);
	return ret;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.read = importer_read,
	.write = importer_write,
};

static int __init importer_init(void)
{
	folder = debugfs_create_dir("barter", NULL);
	debugfs_create_file("importer", 0600, folder, NULL, &importer_fops);
	return 0;
}

static void __exit importer_exit(void)
{
	debugfs_remove_recursive(folder);
}

module_init(importer_init);
module_exit(importer_exit);
MODULE_DESCRIPTION("An importer of dma-bufs that obeys commands");
MODULE_LICENSE("Dual BSD/GPL");
MODULE_IMPORT_NS("DMA_BUF");
