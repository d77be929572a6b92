/*
 * Why a certificate is refused: a sentence that says what to do.
 *
 * Rented machines often have a wrong clock, and then every certificate seems to be expired, or not
 * valid yet. Whose fault it is can tell who reads both dates, so both are told.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/x509v3.h>

#include "daemon/stream_private.h"
#include "shared/util.h"

#define NAMES_MAX 128
#define DATE_MAX  40

/* "a.test, b.test" of the certificate, or "no name". */
static const char *names_of(X509 *cert, char text[static NAMES_MAX])
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	size_t len = 0;

	text[0] = '\0';
	for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		char one[96] = "";

		if (name->type == GEN_DNS) {
			int n = MIN(ASN1_STRING_length(name->d.dNSName), (int)sizeof(one) - 1);

			memcpy(one, ASN1_STRING_get0_data(name->d.dNSName), (size_t)n);
			for (int c = 0; c < n; c++) /* it goes to logs */
				if (one[c] <= ' ' || one[c] > '~')
					one[c] = '?';
		} else if (name->type == GEN_IPADD && ASN1_STRING_length(name->d.iPAddress) == 4) {
			const uint8_t *b = ASN1_STRING_get0_data(name->d.iPAddress);

			snprintf(one, sizeof(one), "%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
		}
		if (one[0] && len + strlen(one) + 3 < NAMES_MAX)
			len += (size_t)snprintf(text + len, NAMES_MAX - len, "%s%s",
						len ? ", " : "", one);
	}
	GENERAL_NAMES_free(names);
	return text[0] ? text : "no name";
}

static const char *date_text(const struct tm *date, char text[static DATE_MAX])
{
	if (!date || strftime(text, DATE_MAX, "%Y-%m-%d %H:%M UTC", date) == 0)
		snprintf(text, DATE_MAX, "an unknown date");
	return text;
}

void refuse_date(struct tls_check *check, const char *who, X509 *cert, bool is_over)
{
	const ASN1_TIME *bound = !cert     ? NULL
				 : is_over ? X509_get0_notAfter(cert)
					   : X509_get0_notBefore(cert);
	struct tm date, now_date;
	char there[DATE_MAX], here[DATE_MAX];
	time_t now = time(NULL);

	date_text(bound && ASN1_TIME_to_tm(bound, &date) == 1 ? &date : NULL, there);
	date_text(gmtime_r(&now, &now_date), here);
	snprintf(check->sentence, sizeof(check->sentence),
		 is_over ? "the certificate of %.80s has expired: it was valid until %s, and this "
			   "machine's clock says %s"
			 : "the certificate of %.80s is not valid yet: is the clock right? It is "
			   "valid from %s, and this machine's clock says %s",
		 who, there, here);
}

/* NULL: it is from nobody who is trusted, and no CA was given. */
static void refuse_issuer(struct tls_check *check, const char *ca_file)
{
	if (ca_file)
		snprintf(check->sentence, sizeof(check->sentence),
			 "the certificate of %.80s is from an issuer that is not in %.80s: give "
			 "the CA of this server with --ca",
			 check->name, ca_file);
	else
		snprintf(check->sentence, sizeof(check->sentence),
			 "the certificate of %.100s is from an unknown issuer: give the CA with "
			 "--ca, or install ca-certificates",
			 check->name);
}

void refuse_name(struct tls_check *check, X509 *cert)
{
	char text[160];

	snprintf(check->sentence, sizeof(check->sentence),
		 "the certificate of %.80s is for another name (%.120s)", check->name,
		 cert ? names_of(cert, text) : "no name");
}

void refuse_chain(struct tls_check *check, X509_STORE_CTX *store, const char *ca_file)
{
	int error = X509_STORE_CTX_get_error(store);
	bool is_own = X509_STORE_CTX_get_error_depth(store) == 0;
	char who[96];

	switch (error) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		snprintf(who, sizeof(who), "%s%.80s", is_own ? "" : "the CA of ", check->name);
		refuse_date(check, who, X509_STORE_CTX_get_current_cert(store),
			    error == X509_V_ERR_CERT_HAS_EXPIRED);
		break;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		refuse_name(check, X509_STORE_CTX_get0_cert(store));
		break;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
		refuse_issuer(check, ca_file);
		break;
	default:
		snprintf(check->sentence, sizeof(check->sentence),
			 "the certificate of %.100s is refused: %.100s", check->name,
			 X509_verify_cert_error_string(error));
	}
}
