/* Variables of the stock client's container that this node has no use for. */
#ifndef MESHWRAP_DAEMON_OPTIONS_UNUSED_H
#define MESHWRAP_DAEMON_OPTIONS_UNUSED_H

/* Warns of each that is set. */
void options_note_unused(void);

#endif
