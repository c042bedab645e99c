# SPDX-License-Identifier: MIT
# socksplice: `make demo` and `make check` set up what they need by themselves.

VERSION := 0.1.0
B       ?= build
ifeq ($(origin CC),default)
CC      := gcc
endif
CLANG   ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
PREFIX  ?= /usr

PKGS    := libbpf libxdp liburing yaml-0.1 jansson libsystemd libmnl libcares libmicrohttpd
FLOORS  := headers user/base user/core user/dev user/svc user/app user/doctor user
INCLUDE := $(addprefix -I,$(FLOORS)) -I$(B)
WARN    := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes
OPT     ?= -O2
SAN     ?=
CFLAGS  += -std=gnu11 -g $(OPT) $(SAN) $(WARN) -D_GNU_SOURCE -DSOCKSPLICE_VERSION='"$(VERSION)"' $(INCLUDE) -MMD -MP
LDLIBS  += $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lnuma -lpthread

ARCH     := $(shell uname -m | sed 's/x86_64/x86/; s/aarch64/arm64/')
MULTIARCH := $(shell $(CC) -print-multiarch 2>/dev/null)
BPFFLAGS := -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_$(ARCH) -std=gnu11 -Wall -Wextra -Werror -Iheaders -Ibpf -I/usr/include/$(MULTIARCH)

# `make V=1` shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)  $@")

SRC      := $(wildcard user/*/*.c user/*.c)
OBJ      := $(SRC:%.c=$(B)/%.o)
# Everything but the program's entry: what the tests link against.
LIB      := $(filter-out $(B)/user/main.o,$(OBJ))

.PHONY: all setup demo check lint fuzz bench soak install clean
all: $(B)/socksplice $(B)/socksplice_xdp.o $(B)/socksplice_tc.o

# --- building -------------------------------------------------------------

$(B)/socksplice: $(B)/user/main.o $(B)/libsocksplice.a
	$(call say,LD)
	$(Q)$(CC) $(SAN) -o $@ $^ $(LDLIBS)

# An archive, so that a unit test links only what it uses.
$(B)/libsocksplice.a: $(LIB)
	$(call say,AR)
	$(Q)rm -f $@ && ar rcs $@ $^

SKELETONS := $(B)/socksplice_xdp.skel.h $(B)/socksplice_tc.skel.h

$(B)/user/%.o: user/%.c | $(SKELETONS)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<

$(B)/%.o: bpf/%.bpf.c $(wildcard bpf/*.bpf.h headers/*.h)
	@mkdir -p $(@D)
	$(call say,BPF)
	$(Q)$(CLANG) $(BPFFLAGS) -c -o $@ $<

$(B)/%.skel.h: $(B)/%.o
	$(call say,GEN)
	$(Q)$(BPFTOOL) gen skeleton $< name $* > $@.new 2>/dev/null && mv $@.new $@

# --- tests: one program per file; see tests/README.md ----------------------

TEST_SRC := $(wildcard tests/unit/*_test.c tests/replay/*_test.c tests/bpf/*_test.c)
TEST_BIN := $(TEST_SRC:%.c=$(B)/%)
TEST_LIB := $(patsubst %.c,$(B)/%.o,$(wildcard tests/replay/lib_*.c tests/bpf/lib_*.c))
TOOL_BIN := $(patsubst %.c,$(B)/%,$(wildcard tests/tools/*.c))
BENCH_BIN := $(patsubst %.c,$(B)/%,$(wildcard tests/bench/*_bench.c))
FUZZ_BIN := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/*_fuzz.c))

$(B)/tests/%.o: tests/%.c | $(SKELETONS)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS) -Itests/replay -Itests/bpf -c -o $@ $<

$(B)/tests/tools/%: $(B)/tests/tools/%.o
	$(call say,LD)
	$(Q)$(CC) $(SAN) -o $@ $< -lpthread

$(B)/tests/%_test: $(B)/tests/%_test.o $(TEST_LIB) $(B)/libsocksplice.a
	$(call say,LD)
	$(Q)$(CC) $(SAN) -o $@ $^ $(LDLIBS) -lcmocka

$(B)/tests/%_bench: $(B)/tests/%_bench.o $(TEST_LIB) $(B)/libsocksplice.a
	$(call say,LD)
	$(Q)$(CC) $(SAN) -o $@ $^ $(LDLIBS) -lcmocka

# --- the reference of all keys, in docs/ and packaging/man/ ------------------

$(B)/scripts/%.o: scripts/%.c | $(SKELETONS)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<

$(B)/reference: $(B)/scripts/reference.o $(B)/libsocksplice.a
	$(call say,LD)
	$(Q)$(CC) $(SAN) -o $@ $^ $(LDLIBS)

reference: $(B)/reference
	@BUILD=$(B) scripts/reference.sh write

.PHONY: tests reference
tests: $(TEST_BIN) $(TOOL_BIN) $(BENCH_BIN)
.SECONDARY:

-include $(OBJ:.o=.d) $(B)/scripts/reference.d $(TEST_BIN:=.d) $(TEST_LIB:.o=.d) $(TOOL_BIN:=.d) $(BENCH_BIN:=.d)

# What the program is linked with, for the fuzzers.
.PHONY: libs
libs:
	@echo $(LDLIBS)

setup:
	@scripts/setup.sh build test

# The Makefile is read again after the set-up, when pkg-config knows the libraries.
demo: setup
	@$(MAKE) --no-print-directory -j2 all
	@scripts/demo.sh

check: setup
	@scripts/check.sh

lint: setup
	@$(MAKE) --no-print-directory -j2 all $(B)/reference
	@scripts/lint.sh

# make fuzz FUZZ_SECONDS=600: each fuzzer that long
fuzz: setup
	@$(MAKE) --no-print-directory -j2 all
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-300} scripts/fuzz.sh

bench:
	@scripts/setup.sh build test bench
	@$(MAKE) --no-print-directory -j2 all tests
	@scripts/bench.sh

soak: setup
	@$(MAKE) --no-print-directory -j2 all tests
	@scripts/soak.sh

install: all
	install -D -m 755 $(B)/socksplice $(DESTDIR)$(PREFIX)/sbin/socksplice
	install -D -m 644 $(B)/socksplice_xdp.o $(DESTDIR)$(PREFIX)/lib/socksplice/socksplice_xdp.o
	install -D -m 644 $(B)/socksplice_tc.o $(DESTDIR)$(PREFIX)/lib/socksplice/socksplice_tc.o
	install -D -m 644 packaging/socksplice.service $(DESTDIR)/lib/systemd/system/socksplice.service
	install -D -m 644 packaging/man/socksplice.8 $(DESTDIR)$(PREFIX)/share/man/man8/socksplice.8
	install -D -m 644 packaging/man/socksplice.yml.5 $(DESTDIR)$(PREFIX)/share/man/man5/socksplice.yml.5
	[ -e $(DESTDIR)/etc/socksplice/socksplice.yml ] || \
		install -D -m 600 packaging/socksplice.yml $(DESTDIR)/etc/socksplice/socksplice.yml

clean:
	rm -rf build build-asan build-fuzz
