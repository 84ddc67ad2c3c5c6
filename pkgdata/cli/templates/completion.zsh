#compdef pkgdata
_pkgdata() {
  local -a found
  found=("${(@f)$(pkgdata complete-words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a found || _files
}
compdef _pkgdata pkgdata
