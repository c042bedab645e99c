/* SPDX-License-Identifier: MIT */
#include "probe.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "bpfload.h"
#include "compat.h"
#include "frame.h"
#include "recvring.h"
#include "uring.h"

#ifndef BPF_FS_MAGIC
#define BPF_FS_MAGIC 0xcafe4a11
#endif

int probe_uring(bool *defer_taskrun, bool *recv_bundle)
{
	struct uring uring;
	int err = uring_create(&uring, 8, true);

	*defer_taskrun = *recv_bundle = false;
	if (err)
		return err;
	*defer_taskrun = uring.defer_taskrun;
	*recv_bundle = uring.recv_bundle;
	uring_destroy(&uring);
	return 0;
}

int probe_buffer_ring(void)
{
	static uint8_t area[2048];
	static struct frame frames[1];
	struct frame_pool pool;
	struct recvring ring;
	struct uring uring;
	int err = uring_create(&uring, 8, true);

	if (err)
		return err;
	frame_pool_init(&pool, area, frames, 1, sizeof(area));
	err = recvring_create(&ring, &uring, &pool, 1, 8, 1448);
	uring_destroy(&uring);
	if (!err)
		recvring_destroy(&ring);
	return err;
}

int probe_af_xdp(void)
{
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

int probe_bpf_program(void)
{
	const struct bpfload_settings settings = {.max_flows = 16};
	struct bpfload *bpf;
	char error[256];
	int err = bpfload_open(&bpf, &settings, error, sizeof(error));

	if (!err)
		bpfload_close(bpf, false);
	return err;
}

int probe_tcx(void)
{
	const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int program = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "probe", "GPL", pass, 2, NULL), link, err;

	if (program < 0)
		return -errno;
	/* to no interface: a kernel that knows tcx looks for it, an older one does not know the attach type */
	link = bpf_link_create(program, 0, (enum bpf_attach_type)BPF_TCX_INGRESS_ATTACH, NULL);
	err = link < 0 ? -errno : 0;
	if (link >= 0)
		close(link);
	close(program);
	return err == -ENODEV ? 0 : err ? err : -EINVAL;
}

int probe_tun(void)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), err = fd < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

int probe_btf(void)
{
	return access("/sys/kernel/btf/vmlinux", R_OK) ? -errno : 0;
}

uint32_t probe_free_huge_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	unsigned int pages = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%u", &pages) != 1)
		pages = 0;
	fclose(file);
	return pages;
}

bool probe_bpffs_mounted(void)
{
	struct statfs info;

	return !statfs("/sys/fs/bpf", &info) && (unsigned long)info.f_type == BPF_FS_MAGIC;
}

uint64_t probe_descriptor_limit(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) ? 0 : limit.rlim_max;
}
