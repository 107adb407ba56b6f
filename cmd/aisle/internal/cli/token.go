package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/activator/engine/access"
)

func (a *app) token() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Tokens for the engine's admin API over TCP",
		Long: `Tokens are asked of who uses the engine's admin API at aisle up --admin-addr.
The file of --admin-tokens has a line for each: its name, its role, the SHA-256 of
the token, and when it expires. It is read for each request: to take a token back,
take its line out.`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newToken())
	return cmd
}

func (a *app) newToken() *cobra.Command {
	var file, role string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a token, and print it this once",
		Long: `Make a token and add its digest to a file of tokens, which is made if it is not
there. The token itself is printed this once and kept nowhere. Roles: view may
read all but Secrets; scale may besides set how many pods services have, by hand;
admin may do everything.`,
		Example: `  aisle token new ci --role scale --admin-tokens tokens --for 720h
  aisle up --admin-addr 127.0.0.1:8090 --admin-tokens tokens
  AISLE_TOKEN=... aisle --engine http://127.0.0.1:8090 scale title --min 2 --for 3h`,
		Args: exactly(1, "a name"),
		RunE: func(_ *cobra.Command, args []string) error {
			if file == "" {
				return usagef("say in which file tokens are: --admin-tokens FILE")
			}
			may, err := access.ParseRole(role)
			if err != nil {
				return usagef("--role: %w", err)
			}
			var expires time.Time
			if lasts < 0 {
				return usagef("--for %v: use a duration such as 720h", lasts)
			}
			if lasts > 0 {
				expires = time.Now().Add(lasts)
			}
			secret, err := access.Add(file, args[0], may, expires)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, secret)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "admin-tokens", "", "the file of tokens")
	f.StringVar(&role, "role", "view", "what it may do: view, scale or admin")
	f.DurationVar(&lasts, "for", 0, "when it expires, from now on (default never)")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"view", "scale", "admin"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	return cmd
}
