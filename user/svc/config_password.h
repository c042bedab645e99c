/* SPDX-License-Identifier: MIT */
/* Passwords that stand in files of their own. */
#ifndef SOCKSPLICE_CONFIG_PASSWORD_H
#define SOCKSPLICE_CONFIG_PASSWORD_H

#include "config_yaml.h"

/*
 * Puts the first line of each upstream's `password-file` into its `password`. `name` stands in messages, which never
 * show what is in the file. A file that others may read draws a warning in the log. 0 or -errno with the error.
 */
int config_read_passwords(const char *name, struct config *config, struct config_error *error);

#endif
