package browser_test

import (
	"testing"

	"lablink/internal/awsaccount"
	"lablink/internal/config"
	"lablink/internal/server"
	"lablink/internal/testkit"
)

// An organiser enters AWS credentials, wrong ones first, and has them forgotten.
func organiserEntersCredentials(t *testing.T, c *chromium) {
	moto := testkit.Moto(t)
	account, err := awsaccount.Open(t.Context(), awsaccount.Options{Region: testkit.MotoRegion, Endpoint: moto.URL})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := moto.Config(t).Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, chromium: c, Allocator: testkit.Serve(t, testkit.ServeOptions{
		Private: true,
		Configure: func(cfg *config.Config) {
			cfg.Provider, cfg.App.Region, cfg.AWS.Endpoint = config.ProviderAWS, testkit.MotoRegion, moto.URL
			cfg.Machine.Image, cfg.Server.PublicURL = "registry.example.org/lablink-client:1", "http://lablink.example.org"
		},
		Adjust: func(srv *server.Server) { srv.AWS = account },
	})}
	p := s.organiser().open("/admin")
	p.click("link", "AWS")
	p.sees("none: there are no credentials", "kept in memory only")
	p.everybody("AWS without credentials")

	p.fill("Access key ID", " ")
	p.fill("Secret access key", "x")
	p.submitUnchecked()
	p.sees("Type the access key ID.")
	p.everybody("AWS, without the access key ID")

	p.visit("/admin/aws")
	p.fill("Access key ID", keys.AccessKeyID)
	p.fill("Secret access key", keys.SecretAccessKey)
	p.click("button", "Use these credentials")
	p.sees("These credentials are used from now on.", moto.Account, "entered on this page")
	p.everybody("AWS with credentials")

	p.click("button", "Forget the credentials entered here")
	p.sees("The credentials that were entered are forgotten.", "none: there are no credentials")
}
