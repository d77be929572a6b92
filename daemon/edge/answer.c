/* Answers of the local API. Out of memory is one, too. */
#include "daemon/edge/answer.h"

#include <string.h>

#include <event2/buffer.h>
#include <event2/http.h>

void answer_send_text(struct evhttp_request *request, int code, const char *text)
{
	struct evbuffer *body = evbuffer_new();

	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
			  "application/json");
	if (body && text && evbuffer_add(body, text, strlen(text)) == 0)
		evhttp_send_reply(request, code, NULL, body);
	else
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
	if (body)
		evbuffer_free(body);
}

void answer_send_json(struct evhttp_request *request, int code, json_object *object)
{
	answer_send_text(
		request, code,
		object ? json_object_to_json_string_ext(
				 object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
		       : NULL);
	json_object_put(object);
}

void answer_add_text(json_object *object, const char *key, const char *text)
{
	if (object)
		json_object_object_add(object, key, json_object_new_string(text ? text : ""));
}

void answer_add_number(json_object *object, const char *key, int number)
{
	if (object)
		json_object_object_add(object, key, json_object_new_int(number));
}

void answer_send_problem(struct evhttp_request *request, int code, const char *text)
{
	json_object *object = json_object_new_object();

	answer_add_text(object, "error", text);
	answer_send_json(request, code, object);
}
