//go:build cgo && linux

package pamlogin

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

// The few declarations of Linux-PAM that are needed, whose binary interface has been
// stable since 1996: so the program builds without its headers, and runs where the
// library is missing.
struct message { int style; const char *text; };
struct response { char *text; int code; };
struct conversation {
	int (*ask)(int, const struct message **, struct response **, void *);
	void *data;
};
struct login { char *user, *password; };

enum { SUCCESS = 0, BUF_ERR = 5, CONV_ERR = 19 };
enum { ECHO_OFF = 1, ECHO_ON = 2, ERROR_TEXT = 3, INFO_TEXT = 4 };
enum { ITEM_USER = 2 };
enum { MAX_QUESTIONS = 32 };

// ask answers the hidden question with the password and the visible one with the user.
static int ask(int n, const struct message **questions, struct response **answers, void *data) {
	struct login *l = data;
	if (n <= 0 || n > MAX_QUESTIONS)
		return CONV_ERR;
	struct response *r = calloc(n, sizeof *r);
	if (r == NULL)
		return BUF_ERR;
	for (int i = 0; i < n; i++) {
		int style = questions[i]->style;
		if (style == ECHO_OFF)
			r[i].text = strdup(l->password);
		else if (style == ECHO_ON)
			r[i].text = strdup(l->user);
		else if (style != ERROR_TEXT && style != INFO_TEXT) {
			for (int k = 0; k < i; k++)
				free(r[k].text);
			free(r);
			return CONV_ERR;
		}
	}
	*answers = r;
	return SUCCESS;
}

struct verdict { int code; int step; char name[512]; };

// login carries out all steps; step says which gave the code: 0 no library, 1 start,
// 2 authenticate, 3 account, 4 name.
static struct verdict check(const char *service, char *user, char *password) {
	struct verdict v = {0};
	void *lib = dlopen("libpam.so.0", RTLD_NOW | RTLD_GLOBAL);
	if (lib == NULL)
		return v;
	int (*start)(const char *, const char *, const struct conversation *, void **) = dlsym(lib, "pam_start");
	int (*authenticate)(void *, int) = dlsym(lib, "pam_authenticate");
	int (*account)(void *, int) = dlsym(lib, "pam_acct_mgmt");
	int (*item)(const void *, int, const void **) = dlsym(lib, "pam_get_item");
	int (*end)(void *, int) = dlsym(lib, "pam_end");
	if (!start || !authenticate || !account || !item || !end)
		return v;
	struct login l = {user, password};
	struct conversation c = {ask, &l};
	const int quiet = 0x8000 | 1; // PAM_SILENT, PAM_DISALLOW_NULL_AUTHTOK
	void *handle = NULL;
	const void *name = NULL;
	v.step = 1;
	if ((v.code = start(service, user, &c, &handle)) != SUCCESS)
		return v;
	v.step = 2;
	if ((v.code = authenticate(handle, quiet)) == SUCCESS) {
		v.step = 3;
		if ((v.code = account(handle, quiet)) == SUCCESS) {
			v.step = 4;
			v.code = item(handle, ITEM_USER, &name);
			if (v.code == SUCCESS && name != NULL)
				strncpy(v.name, name, sizeof v.name - 1);
		}
	}
	end(handle, v.code);
	return v;
}

static int present(void) { return dlopen("libpam.so.0", RTLD_NOW | RTLD_GLOBAL) != NULL; }

static void wipe(char *text) {
	volatile char *p = text;
	while (*p)
		*p++ = 0;
}
*/
import "C"

import (
	"fmt"
	"unsafe"
)

var steps = [...]string{"load libpam.so.0", "start", "authenticate", "account", "name"}

// broken are the codes that mean that PAM itself does not work (pam_appl.h): open,
// symbol, service, system, buffer, authentication information unavailable, conversation,
// abort, module unknown.
var broken = map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true, 9: true, 19: true, 26: true, 28: true}

// present reports whether there is a PAM to ask.
func present() error {
	if C.present() == 0 {
		return fmt.Errorf("%w: libpam.so.0 cannot be loaded", ErrUnavailable)
	}
	return nil
}

// authenticate asks PAM for user and password, then whether the account may be used.
func authenticate(user string, password []byte) (name string, err error) {
	service, login := C.CString(Service), C.CString(user)
	secret := (*C.char)(C.malloc(C.size_t(len(password) + 1)))
	defer func() {
		C.wipe(secret)
		for _, p := range []*C.char{service, login, secret} {
			C.free(unsafe.Pointer(p))
		}
	}()
	copied := unsafe.Slice((*byte)(unsafe.Pointer(secret)), len(password)+1)
	copy(copied, password)
	copied[len(password)] = 0
	v := C.check(service, login, secret)
	code, step := int(v.code), int(v.step)
	switch {
	case step == 0:
		return "", fmt.Errorf("%w: libpam.so.0 cannot be loaded", ErrUnavailable)
	case broken[code]:
		return "", fmt.Errorf("%w: %s: PAM error %d", ErrUnavailable, steps[step], code)
	case code != 0:
		return "", fmt.Errorf("%w: %s: PAM error %d", ErrDenied, steps[step], code)
	}
	return C.GoString(&v.name[0]), nil
}
