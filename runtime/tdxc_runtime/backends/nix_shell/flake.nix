{
  description = "mkosi and what it calls, for baking a compiled tree";

  inputs.nixpkgs.url = "nixpkgs/nixos-25.05";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      shellFor = system:
        let pkgs = nixpkgs.legacyPackages.${system};
        in pkgs.mkShell {
          packages = with pkgs; [
            mkosi-full apt dpkg debian-archive-keyring cpio zstd dosfstools mtools e2fsprogs kmod openssl
          ];
        };
    in {
      devShells = nixpkgs.lib.genAttrs systems (system: { default = shellFor system; });
    };
}
