/* commands - what the `baton` tool can do; one file each.  argv[0] is the subcommand's name. */
#ifndef TOOLS_COMMANDS_H
#define TOOLS_COMMANDS_H

/* Each returns the exit status. */
int command_up(int argc, char **argv, char **environment);
int command_solo(int argc, char **argv, char **environment);
int command_status(int argc, char **argv, char **environment);
int command_certs(int argc, char **argv, char **environment);
int command_doctor(int argc, char **argv, char **environment);
int command_chat(int argc, char **argv, char **environment);
int command_kv(int argc, char **argv, char **environment);
int command_key(int argc, char **argv, char **environment);
#endif
