/*
 * The tables of meshd's options. A new one has its line in the help, its id, its name, its variable
 * where one makes sense, and its case in options_take.c. The status tells it
 * (mesh_status_options.c); meshrun hands it on (preload/meshrun.c), and says where the daemon that
 * runs has another value (preload/meshrun_same.c).
 */
#include "daemon/options_table.h"

#include <string.h>

#include "daemon/login.h"

const char options_usage[] =
	"usage: meshd --config FILE [OPTIONS]\n"
	"       meshd --login-server URL [--auth-key-file FILE] [--state DIR] [OPTIONS]\n"
	"       meshd --help | --version\n"
	"\n"
	"Runs one mesh node in the foreground: from a WireGuard file, or as a member of a\n"
	"tailnet. Programs join it with meshrun; meshctl shows it. The variable beside an\n"
	"option sets it, too; the command line wins.\n"
	"\n"
	"  --config FILE          wg-quick's keys, plus '# Name = node-a'; 'meshctl reload' has\n"
	"                         it read again                               MESHWRAP_CONFIG\n"
	"\n"
	"  --login-server URL     the coordination server; default\n"
	"                         " LOGIN_DEFAULT_SERVER "            TS_LOGIN_SERVER\n"
	"  --auth-key-file FILE   holds the key that registers this node; without one a URL to\n"
	"                         visit is printed       TS_AUTHKEY=KEY or TS_AUTHKEY=file:FILE\n"
	"  --auth-key-fd N        the same, from an open descriptor\n"
	"  --hostname NAME        default: the machine's                          TS_HOSTNAME\n"
	"  --state DIR            where identity and map are kept; without it they are in\n"
	"                         memory, and the node is ephemeral              TS_STATE_DIR\n"
	"  --ca FILE              a CA to trust besides the system's              MESHWRAP_CA\n"
	"  --accept-routes[=BOOL] use the subnets of other nodes; no       TS_ACCEPT_ROUTES\n"
	"  --accept-dns[=BOOL]    use the tailnet's names; yes                TS_ACCEPT_DNS\n"
	"  --shields-up[=BOOL]    refuse all that comes in; no                TS_SHIELDS_UP\n"
	"  --advertise-tags LIST  tag:a,tag:b                              TS_ADVERTISE_TAGS\n"
	"  --port N               UDP port; default 41641, or any where that is taken  TS_PORT\n"
	"  --trust-new-server-key the server was set up anew: take its new key, this once\n"
	"  --capability-version N what to claim to the server    TS_CAPABILITY_VERSION\n"
	"\n"
	"  --socks5-server ADDR                                             TS_SOCKS5_SERVER\n"
	"  --outbound-http-proxy-listen ADDR                   TS_OUTBOUND_HTTP_PROXY_LISTEN\n"
	"                         a proxy there, as in 127.0.0.1:1055, or at :1055, which is\n"
	"                         every address (0.0.0.0 and [::], too); both may be the same\n"
	"  --dir DIR              the runtime folder (default $XDG_RUNTIME_DIR/meshwrap, else\n"
	"                         /run/meshwrap for root, else /tmp/meshwrap-UID) MESHWRAP_DIR\n"
	"  --log-level LEVEL      error, warning, info or debug; info      MESHWRAP_LOG_LEVEL\n"
	"                         the log is standard error; to a file its lines have a time\n"
	"  --allow-all-users      programs of every user of this machine may use the mesh;\n"
	"                         otherwise those of this user and root\n"
	"  --congestion NAME      what sets a stream's speed: cubic (default) or rate\n"
	"                                                              MESHWRAP_CONGESTION\n"
	"  --workers N            threads that encrypt, 1 to 16 (4), but 1 with up to two\n"
	"                         processors and never more than all but one MESHWRAP_WORKERS\n"
	"  --no-syn-hold          dial first, then let programs connect, as where the kernel\n"
	"                         does not support holding a SYN\n"
	"\n"
	"TS_EXTRA_ARGS may hold --login-server and others of these, as for the stock client.\n"
	"HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, or in lower case, name the proxy that\n"
	"leads to the server and the relays, as http://user:password@proxy:3128.\n";

const struct option options_known[] = {
	{ "config", required_argument, NULL, OPTION_CONFIG },
	{ "login-server", required_argument, NULL, OPTION_LOGIN_SERVER },
	{ "auth-key", required_argument, NULL, OPTION_AUTH_KEY },
	{ "authkey", required_argument, NULL, OPTION_AUTH_KEY },
	{ "auth-key-file", required_argument, NULL, OPTION_AUTH_KEY_FILE },
	{ "auth-key-fd", required_argument, NULL, OPTION_AUTH_KEY_FD },
	{ "hostname", required_argument, NULL, OPTION_HOSTNAME },
	{ "state", required_argument, NULL, OPTION_STATE },
	{ "statedir", required_argument, NULL, OPTION_STATE },
	{ "ca", required_argument, NULL, OPTION_CA },
	{ "accept-routes", optional_argument, NULL, OPTION_ACCEPT_ROUTES },
	{ "accept-dns", optional_argument, NULL, OPTION_ACCEPT_DNS },
	{ "shields-up", optional_argument, NULL, OPTION_SHIELDS_UP },
	{ "advertise-tags", required_argument, NULL, OPTION_TAGS },
	{ "port", required_argument, NULL, OPTION_PORT },
	{ "trust-new-server-key", no_argument, NULL, OPTION_TRUST_NEW_KEY },
	{ "capability-version", required_argument, NULL, OPTION_CAPABILITY_VERSION },
	{ "socks5-server", required_argument, NULL, OPTION_SOCKS5 },
	{ "outbound-http-proxy-listen", required_argument, NULL, OPTION_HTTP_PROXY },
	{ "dir", required_argument, NULL, OPTION_DIR },
	{ "log-level", required_argument, NULL, OPTION_LEVEL },
	{ "allow-all-users", no_argument, NULL, OPTION_ALL_USERS },
	{ "congestion", required_argument, NULL, OPTION_CONGESTION },
	{ "workers", required_argument, NULL, OPTION_WORKERS },
	{ "no-syn-hold", no_argument, NULL, OPTION_NO_SYN_HOLD },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ NULL, 0, NULL, 0 },
};

const struct options_variable options_variables[] = {
	{ "MESHWRAP_CONFIG", OPTION_CONFIG },
	{ "TS_LOGIN_SERVER", OPTION_LOGIN_SERVER },
	{ "TS_HOSTNAME", OPTION_HOSTNAME },
	{ "TS_STATE_DIR", OPTION_STATE },
	{ "MESHWRAP_CA", OPTION_CA },
	{ "TS_ACCEPT_ROUTES", OPTION_ACCEPT_ROUTES },
	{ "TS_ACCEPT_DNS", OPTION_ACCEPT_DNS },
	{ "TS_SHIELDS_UP", OPTION_SHIELDS_UP },
	{ "TS_ADVERTISE_TAGS", OPTION_TAGS },
	{ "TS_PORT", OPTION_PORT },
	{ "TS_CAPABILITY_VERSION", OPTION_CAPABILITY_VERSION },
	{ "TS_SOCKS5_SERVER", OPTION_SOCKS5 },
	{ "TS_OUTBOUND_HTTP_PROXY_LISTEN", OPTION_HTTP_PROXY },
	{ "MESHWRAP_DIR", OPTION_DIR },
	{ "MESHWRAP_LOG_LEVEL", OPTION_LEVEL },
	{ "MESHWRAP_CONGESTION", OPTION_CONGESTION },
	{ "MESHWRAP_WORKERS", OPTION_WORKERS },
	{ NULL, 0 },
};

const struct option *options_find(char *word, char **value)
{
	char *equals = strchr(word, '=');
	size_t len;

	word += strspn(word, "-");
	len = equals ? (size_t)(equals - word) : strlen(word);
	*value = equals ? equals + 1 : NULL;
	for (const struct option *k = options_known; k->name; k++)
		if (strlen(k->name) == len && strncmp(k->name, word, len) == 0)
			return k;
	return NULL;
}

const char *options_name(int id)
{
	for (const struct option *k = options_known; k->name; k++)
		if (k->val == id)
			return k->name;
	return "";
}
