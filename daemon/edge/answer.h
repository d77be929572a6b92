/* How the local API answers: JSON, always. */
#ifndef MESHWRAP_DAEMON_EDGE_ANSWER_H
#define MESHWRAP_DAEMON_EDGE_ANSWER_H

#include <json.h>

struct evhttp_request;

/* The request is gone afterwards. text NULL: there was no memory for it. */
void answer_send_text(struct evhttp_request *request, int code, const char *text);
/* Takes the object; NULL: there was no memory for it. */
void answer_send_json(struct evhttp_request *request, int code, json_object *object);
/* {"error": text} */
void answer_send_problem(struct evhttp_request *request, int code, const char *text);

/* Nothing happens where object is NULL. text NULL: "". */
void answer_add_text(json_object *object, const char *key, const char *text);
void answer_add_number(json_object *object, const char *key, int number);

#endif
