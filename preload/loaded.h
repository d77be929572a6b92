/*
 * Libraries that make network calls by instructions of their own: those that a program is
 * linked with, and those that it loads later.
 */
#ifndef MESHWRAP_PRELOAD_LOADED_H
#define MESHWRAP_PRELOAD_LOADED_H

/* At start-up, once: the first look. Before it loaded_look() does nothing. */
void loaded_start(void);
/* Has anything been loaded since the last look? Then it is looked at. errno is kept. */
void loaded_look(void);

#endif
