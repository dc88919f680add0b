/* OpenSSL: what it allocates for us. */
#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "fail_impl.h"

WRAP(SSL_CTX *, SSL_CTX_new, (const SSL_METHOD *method), (method), FAIL_TLS, ENOMEM, NULL)
WRAP(SSL *, SSL_new, (SSL_CTX *context), (context), FAIL_TLS, ENOMEM, NULL)
WRAP(BIO *, BIO_new, (const BIO_METHOD *method), (method), FAIL_TLS, ENOMEM, NULL)
