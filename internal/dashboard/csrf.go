package dashboard

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
)

// csrf refuses forms that a page of another site sends with the visitor's browser (cross-site request forgery).
type csrf struct {
	// token is in every form of the page, and a form must bring it: other sites cannot read the page. It is drawn anew
	// by each process.
	token  string
	origin *http.CrossOriginProtection
}

func newCSRF() csrf {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return csrf{token: hex.EncodeToString(secret), origin: http.NewCrossOriginProtection()}
}

// check parses the form of a request. When the request is refused, it returns the status code and the text of the
// answer; else 0.
func (c csrf) check(r *http.Request) (code int, text string) {
	switch {
	case c.origin.Check(r) != nil:
		return http.StatusForbidden, "This came from a page of another site."
	case r.ParseForm() != nil:
		return http.StatusBadRequest, "The form could not be read."
	case subtle.ConstantTimeCompare([]byte(r.PostForm.Get("token")), []byte(c.token)) != 1:
		return http.StatusForbidden, "This page is of an earlier process of the worker: reload it and try again."
	}
	return 0, ""
}
