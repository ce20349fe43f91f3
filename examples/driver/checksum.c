// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Linux's driver for the device of docs/writing-a-device.md, which computes the CRC-32 of memory by DMA and raises an
 * interrupt. A write to /dev/checksum sums up its bytes; a read returns the sum.
 *
 * A reset may come between any two jobs. It aborts the job that runs, and the device loses its state.
 */
#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/uaccess.h>

#define ADDRESS 0x00
#define LENGTH 0x08
#define STATUS 0x0c
#define RESULT 0x10
#define STATUS_DONE 2

#define MAX_BYTES SZ_64K
#define JOB_TIMEOUT_MS 5000

struct checksum {
	struct pci_dev *pdev;
	void __iomem *registers;
	struct miscdevice misc;
	/* One job at a time, and none during a reset. */
	struct mutex lock;
	struct completion done;
	void *buffer;
	dma_addr_t address;
	u32 result;
	bool has_result;
};

static irqreturn_t checksum_interrupt(int irq, void *data)
{
	struct checksum *sum = data;

#ifdef BUG_MISSED_INTERRUPT
	/* Masks the interrupt as for a threaded handler, but nothing unmasks it: the second job never completes. */
	disable_irq_nosync(irq);
#endif
	complete(&sum->done);
	return IRQ_HANDLED;
}

static int checksum_job(struct checksum *sum, size_t length)
{
	reinit_completion(&sum->done);
	writeq(sum->address, sum->registers + ADDRESS);
	writel(length, sum->registers + LENGTH);
	if (!wait_for_completion_timeout(&sum->done, msecs_to_jiffies(JOB_TIMEOUT_MS)))
		return -ETIMEDOUT;
	if (readl(sum->registers + STATUS) != STATUS_DONE)
		return -EIO;
	sum->result = readl(sum->registers + RESULT);
	sum->has_result = true;
	return 0;
}

static ssize_t checksum_write(struct file *file, const char __user *from, size_t length, loff_t *offset)
{
	struct checksum *sum = container_of(file->private_data, struct checksum, misc);
	int ret = -EINVAL;

	mutex_lock(&sum->lock);
	if (length > 0 && length <= MAX_BYTES)
		ret = copy_from_user(sum->buffer, from, length) ? -EFAULT : checksum_job(sum, length);
	mutex_unlock(&sum->lock);
	return ret ? ret : length;
}

static ssize_t checksum_read(struct file *file, char __user *to, size_t length, loff_t *offset)
{
	struct checksum *sum = container_of(file->private_data, struct checksum, misc);
	char text[16];
	int size;

	mutex_lock(&sum->lock);
	size = sum->has_result ? scnprintf(text, sizeof(text), "%08x\n", sum->result) : 0;
	mutex_unlock(&sum->lock);
	return simple_read_from_buffer(to, length, offset, text, size);
}

static const struct file_operations checksum_fops = {
	.owner = THIS_MODULE,
	.write = checksum_write,
	.read = checksum_read,
};

static int checksum_alloc(struct checksum *sum)
{
	sum->buffer = dma_alloc_coherent(&sum->pdev->dev, MAX_BYTES, &sum->address, GFP_KERNEL);
	return sum->buffer ? 0 : -ENOMEM;
}

static void checksum_free(struct checksum *sum)
{
	dma_free_coherent(&sum->pdev->dev, MAX_BYTES, sum->buffer, sum->address);
}

/* The kernel is about to reset the device: no job may run, and none may begin. */
static void checksum_reset_prepare(struct pci_dev *pdev)
{
	struct checksum *sum = pci_get_drvdata(pdev);

	mutex_lock(&sum->lock);
	sum->has_result = false;
#ifdef BUG_USE_AFTER_RESET
	/* Frees the memory, but the next job uses it. */
	checksum_free(sum);
#endif
}

static void checksum_reset_done(struct pci_dev *pdev)
{
	struct checksum *sum = pci_get_drvdata(pdev);

	mutex_unlock(&sum->lock);
}

static const struct pci_error_handlers checksum_errors = {
	.reset_prepare = checksum_reset_prepare,
	.reset_done = checksum_reset_done,
};

static int checksum_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct checksum *sum;
	int ret;

	sum = devm_kzalloc(&pdev->dev, sizeof(*sum), GFP_KERNEL);
	if (!sum)
		return -ENOMEM;
	sum->pdev = pdev;
	mutex_init(&sum->lock);
	init_completion(&sum->done);
	pci_set_drvdata(pdev, sum);
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	sum->registers = pcim_iomap(pdev, 0, 0);
	if (!sum->registers)
		return -ENOMEM;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	pci_set_master(pdev);
	ret = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSIX);
	if (ret < 0)
		return ret;
	ret = request_irq(pci_irq_vector(pdev, 0), checksum_interrupt, 0, "checksum", sum);
	if (ret)
		goto free_vectors;
	ret = checksum_alloc(sum);
	if (ret)
		goto free_irq;
	sum->misc.minor = MISC_DYNAMIC_MINOR;
	sum->misc.name = "checksum";
	sum->misc.fops = &checksum_fops;
	ret = misc_register(&sum->misc);
	if (!ret)
		return 0;
	checksum_free(sum);
free_irq:
	free_irq(pci_irq_vector(pdev, 0), sum);
free_vectors:
	pci_free_irq_vectors(pdev);
	return ret;
}

static void checksum_remove(struct pci_dev *pdev)
{
	struct checksum *sum = pci_get_drvdata(pdev);

	misc_deregister(&sum->misc);
	free_irq(pci_irq_vector(pdev, 0), sum);
	pci_free_irq_vectors(pdev);
	checksum_free(sum);
}

static const struct pci_device_id checksum_ids[] = {
	{ PCI_DEVICE(0x1b36, 0x0c5c) },
	{}
};
MODULE_DEVICE_TABLE(pci, checksum_ids);

static struct pci_driver checksum_driver = {
	.name = "checksum",
	.id_table = checksum_ids,
	.probe = checksum_probe,
	.remove = checksum_remove,
	.err_handler = &checksum_errors,
};
module_pci_driver(checksum_driver);

MODULE_DESCRIPTION("Has the CRC-32 of memory told by a device");
MODULE_LICENSE("GPL");
