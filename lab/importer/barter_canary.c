// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Makes a mistake on request, so that a run can prove that it notices such a mistake. Only the lab's debug kernel has
 * it. A write of one word to <debugfs>/barter-canary makes the mistake and succeeds. The report of the detector is on
 * the console.
 *
 *   use-after-free   reads a byte of memory that was freed             KASAN
 *   inversion        takes two mutexes in both orders, one at a time   lockdep
 *   leak             forgets some memory                               kmemleak
 *   hang             sleeps for HANG_SECONDS, uninterruptibly  the detector of hung tasks
 *
 * KASAN's report taints the kernel, and lockdep is off from then on. So use inversion first.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

/* Every 20 s (lab/kernel/debug.config) the detector looks for tasks that have slept since its last look. */
#define HANG_SECONDS 45
/* Old stack frames and the allocator's own lists still point to most of them. */
#define LEAKS 128

static DEFINE_MUTEX(canary_first);
static DEFINE_MUTEX(canary_second);

static noinline void canary_use_after_free(void)
{
	volatile char *freed = kmalloc(64, GFP_KERNEL);

	if (!freed)
		return;
	kfree((void *)freed);
	OPTIMIZER_HIDE_VAR(freed);
	(void)freed[8];
}

static noinline void canary_inversion(void)
{
	mutex_lock(&canary_first);
	mutex_lock(&canary_second);
	mutex_unlock(&canary_second);
	mutex_unlock(&canary_first);
	mutex_lock(&canary_second);
	mutex_lock(&canary_first);
	mutex_unlock(&canary_first);
	mutex_unlock(&canary_second);
}

static noinline void canary_leak(void)
{
	int i;

	for (i = 0; i < LEAKS; i++) {
		void *forgotten = kmalloc(512, GFP_KERNEL);

		OPTIMIZER_HIDE_VAR(forgotten);
	}
}

static noinline void canary_hang(void)
{
	schedule_timeout_uninterruptible(HANG_SECONDS * HZ);
}

static const struct {
	const char *word;
	void (*sing)(void);
} songs[] = {
	{ "use-after-free", canary_use_after_free },
	{ "inversion", canary_inversion },
	{ "leak", canary_leak },
	{ "hang", canary_hang },
};

static ssize_t canary_write(struct file *file, const char __user *from, size_t count, loff_t *ppos)
{
	char word[32] = "";
	size_t i;

	if (count >= sizeof(word))
		return -EINVAL;
	if (copy_from_user(word, from, count))
		return -EFAULT;
	for (i = 0; i < ARRAY_SIZE(songs); i++) {
		if (sysfs_streq(word, songs[i].word)) {
			songs[i].sing();
			return count;
		}
	}
	return -EINVAL;
}

static const struct file_operations canary_fops = {
	.owner = THIS_MODULE,
	.write = canary_write,
};

static int __init canary_init(void)
{
	debugfs_create_file("barter-canary", 0200, NULL, NULL, &canary_fops);
	return 0;
}

module_init(canary_init);
MODULE_DESCRIPTION("Does what no kernel should");
MODULE_LICENSE("Dual BSD/GPL");
